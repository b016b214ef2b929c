"""The contract as Python: generated from proto/podium/v1 by tools/generate_proto.py; never edited."""
