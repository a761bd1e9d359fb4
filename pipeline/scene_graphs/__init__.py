"""Caption to scene graph: the parser, the trees, and the table of rules."""
