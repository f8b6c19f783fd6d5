"""The parity kit: ask the real service what nobody outside AWS knows.

python -m comprehend_phi.testing.parity --role-arn ROLE --bucket BUCKET

`docs/parity.md` describes it.
"""
