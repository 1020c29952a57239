"""The contract of the service: what can be asked of it, and how it answers.

`operations` lists every request that the service takes; `requests` and `answers` are the bodies and queries as structs.
The service decodes and encodes with these structs, the client too, and the OpenAPI document is made from them.

A body holds one object or an array of them, or one object a line (NDJSON); the answer has the same shape and order. A
number that JSON has no word for, such as an infinite score, is null.
"""
