"""Where the anchors lie, which box each answers for, and what its outputs mean."""
