"""The drawn world: scenes, their captions, and the data sets made of them."""
