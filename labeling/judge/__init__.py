"""The judge: requests in text become token ids, token ids become scores. The one door to the engine."""
