"""The three lexicons of replacement terms: loading them, and building them from WordNet and an LLM."""
