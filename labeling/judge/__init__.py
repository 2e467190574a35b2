"""The judge: requests in text become token ids, token ids become scores. Only `judge.py` imports the engine."""
