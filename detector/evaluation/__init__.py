"""Detections of a data set and their COCO metrics."""
