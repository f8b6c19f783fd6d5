"""Reading the results of a job from S3."""
