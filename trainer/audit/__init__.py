"""Says whether a CLIP shows signs of a backdoor to people who do not know the trigger: `trainer audit`."""
