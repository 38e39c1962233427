"""What label tools write -> one clean data set in COCO's form: a reader per form, cleaning, writing."""
