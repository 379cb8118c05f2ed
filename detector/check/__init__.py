"""What is wrong with a data set, and how its boxes, anchors and batches fit, before a training."""
