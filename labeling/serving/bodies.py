"""What requests may hold. A field that is not here is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from preftree.labeling.data.row import PROMPT_FIELDS, to_item
from preftree.labeling.types import Message, Rejected


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank")
    return text


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _prompt(value: object) -> tuple[Message, ...]:
    """As the column `prompt` of a row."""
    item = to_item({"prompt": value}, 0, PROMPT_FIELDS)
    if isinstance(item, Rejected):
        raise ValueError(item.reason)
    return item.prompt


Text = Annotated[str, AfterValidator(_not_blank)]
_TURN = {
    "type": "object",
    "properties": {"role": {"enum": ["system", "user", "assistant"]}, "content": {"type": "string"}},
    "required": ["role", "content"],
}
Prompt = Annotated[
    Any, AfterValidator(_prompt), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": _TURN}]})
]


class Body(BaseModel):
    """A request's body."""

    model_config = ConfigDict(extra="forbid", strict=True)


class RewardBody(Body):
    """POST /reward, as slime sends it, and more.

    Attributes:
        prompt: a string or chat messages.
        response: to be scored.
        responses: several to the same prompt; instead of `response`.
        label: ignored, or the rubric (see `preftree serve --rubric-column`).
        rubric: criteria to judge by, in any shape that a column may have; refused where the server does not read it.
        details: answer with figures beside each reward.
    """

    prompt: Prompt
    response: Text | None = None
    responses: Annotated[list[Text], Field(min_length=1)] | None = None
    label: Any = None
    rubric: Any = None
    details: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.response is None) == (self.responses is None):
            raise ValueError("must have either response or responses")
        return self


class QueryBody(Body):
    """POST /get_reward, as OpenRLHF sends it.

    Attributes:
        query: prompt and response in one string.
        prompts: the prompt of each.
        labels: ignored, or the rubric of each.
    """

    query: Annotated[list[Text], Field(min_length=1)]
    prompts: list[str]
    labels: list[Any] | None = None


class Turn(Body):
    """A message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: Text


class PoolingBody(Body):
    """POST /classify and /v1/embeddings, in the shape of vLLM's.

    Attributes:
        input: whole conversations, rendered by the judge's chat template (or see --split).
        messages: a conversation that ends in the response; instead of `input`.
        model, user, encoding_format: ignored.
        use_activation: true is refused, for rewards are given as they are.
    """

    input: Annotated[list[Text], Field(min_length=1), BeforeValidator(_listed)] | None = None
    messages: Annotated[list[Turn], Field(min_length=2)] | None = None
    model: str | None = None
    user: str | None = None
    encoding_format: Literal["float"] = "float"
    use_activation: Literal[False] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.input is None) == (self.messages is None):
            raise ValueError("must have either input or messages")
        if self.messages is not None and self.messages[-1].role != "assistant":
            raise ValueError("the last of messages must come from the assistant")
        return self


class CompareBody(Body):
    """POST /compare.

    Attributes:
        prompt: a string or chat messages.
        responses: two or more to it.
    """

    prompt: Prompt
    responses: Annotated[list[Text], Field(min_length=2)]


class PrinciplesBody(Body):
    """PUT /principles.

    Attributes:
        sets: of principles to score under, each a list of names and of statements. Those of --guard and --add-principle
            stay in every set.
    """

    sets: Annotated[list[Annotated[list[Text], Field(min_length=1)]], Field(min_length=1, max_length=100)]
