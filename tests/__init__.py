"""What the tests share, and the tests, in the rooms of what they test."""
