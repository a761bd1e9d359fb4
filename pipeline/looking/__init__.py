"""Looking at what was made: queries, a page of examples, verification."""
