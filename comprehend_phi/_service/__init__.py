"""Requests to the service: encoding, sending, and what their failures mean."""
