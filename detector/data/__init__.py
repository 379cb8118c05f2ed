"""From COCO files to padded batches."""
