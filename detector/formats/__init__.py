"""Label formats of others (Pascal VOC, YOLO, LabelMe, CSV, COCO's dialects) to our COCO JSON."""
