"""Scene graph and lexicons to positive and negative sub-captions, as edits of character spans."""
