"""What the judge answered: an open artefact of Parquet files, from which labels are made again without a model."""
