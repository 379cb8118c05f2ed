"""Our speed and memory beside those of other libraries, and the proof on a GPU."""
