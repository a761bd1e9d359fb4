"""Asking a language model through an OpenAI-compatible server: budget, cache, replies, prompts."""
