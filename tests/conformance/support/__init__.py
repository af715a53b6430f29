"""What the conformance and end-to-end tests share: a real service process, raw HTTP, and the calls in two ways."""
