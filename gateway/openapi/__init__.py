"""What the services' endpoints are, told to programs (OpenAPI 3.1) and to people (pages)."""
