"""A request that gets no reward, and why."""

from __future__ import annotations


class Refused(Exception):
    """What the client is told instead of an answer; never a traceback, and never a reward of 0.

    Attributes:
        status: of HTTP.
        reason: one line.
        field: of the request's body, such as query[0]; None where no field is wrong.
        retry_after: seconds after which the same request may be answered; None where it never will be.
    """

    def __init__(self, status: int, reason: str, field: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.field, self.retry_after = status, reason, field, retry_after

    @property
    def body(self) -> dict[str, dict[str, str]]:
        """Of the answer."""
        return {"error": {**({"field": self.field} if self.field else {}), "reason": self.reason}}

    @property
    def headers(self) -> dict[str, str]:
        """Of the answer."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
