"""The service's contract as structs: requests and answers."""
