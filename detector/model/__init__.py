"""Images to class logits and box deltas; the model never sees a target."""
