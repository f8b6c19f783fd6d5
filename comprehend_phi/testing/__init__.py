"""A local Amazon Comprehend Medical for PHI detection jobs: for tests and demos, without AWS."""
