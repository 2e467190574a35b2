"""The routes of the server: protocols of trainers on one side, `Service` on the other."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from preftree.labeling.data.row import BadRow, parse
from preftree.labeling.serving.bodies import CompareBody, PoolingBody, PrinciplesBody, QueryBody, RewardBody
from preftree.labeling.serving.judging import Judging
from preftree.labeling.serving.refused import Refused
from preftree.labeling.serving.rewards import Reward, mean_logs, reward_of
from preftree.labeling.serving.service import Named, NamedResponse, Service
from preftree.labeling.serving.texts import Markup
from preftree.labeling.types import Message, ResponseSet
from preftree.labeling.types import Response as Answer

_NO_COLUMNS: Mapping[str, Any] = MappingProxyType({})
CLIENT_HEADER, PRINCIPLES_HEADER = "x-preftree-client", "X-Preftree-Principles"


class Routes:
    """The routes of one server, on one service."""

    def __init__(self, service: Service, markup: Markup) -> None:
        self._service = service
        self._markup = markup
        self.router = APIRouter(route_class=_StrictRoute)
        add = self.router.add_api_route
        add("/get_reward", self.get_reward, methods=["POST"], tags=["rewards"])
        add("/reward", self.reward, methods=["POST"], tags=["rewards"])
        add("/classify", self.classify, methods=["POST"], tags=["rewards"])
        add("/v1/embeddings", self.embeddings, methods=["POST"], tags=["rewards"])
        add("/compare", self.compare, methods=["POST"], tags=["comparisons"])
        add("/principles", self.principles, methods=["GET"], tags=["principles"])
        add("/principles", self.replace_principles, methods=["PUT"], tags=["principles"])
        add("/health", self.health, methods=["GET"], tags=["operation"])
        add("/metrics", self.metrics, methods=["GET"], tags=["operation"])

    async def get_reward(self, body: QueryBody, request: Request, response: Response) -> dict[str, Any]:
        """Rewards as OpenRLHF asks for them: each query is its prompt and a response in one string."""
        if len(body.prompts) != len(body.query):
            reason = f"has {len(body.prompts)} entries, query has {len(body.query)}"
            raise Refused(422, reason, "prompts")
        labels = [None] * len(body.query) if self._service.judging.rubric_column is None else body.labels or []
        if len(labels) != len(body.query):
            raise Refused(422, f"has {len(labels)} entries, query has {len(body.query)}", "labels")
        samples = []
        for number, (query, prompt) in enumerate(zip(body.query, body.prompts, strict=True)):
            parts = self._markup.of_query(query, prompt, number)
            samples.append(_sample(f"query[{number}]", *parts, self._row(label=labels[number])))
        rewards = await self._rewards(samples, request, response)
        values = [reward.value for reward in rewards]
        return {"rewards": values, "scores": values, "extra_logs": mean_logs(rewards)}

    async def reward(self, body: RewardBody, request: Request, response: Response) -> Any:
        """The reward of a response, a JSON number, as slime asks for it; of several, a list. With details, objects."""
        row = self._row(rubric=body.rubric, label=body.label)
        if body.response is not None:
            samples: list[NamedResponse] = [("response", _answer(body.prompt, body.response, row))]
        else:
            several = enumerate(body.responses or [])
            samples = [(f"responses[{place}]", _answer(body.prompt, text, row)) for place, text in several]
        rewards = await self._rewards(samples, request, response)
        found = [{"reward": one.value, **one.logs} if body.details else one.value for one in rewards]
        return found if body.response is None else found[0]

    async def classify(self, body: PoolingBody, request: Request, response: Response) -> dict[str, Any]:
        """Rewards in the shape of vLLM's /classify, as verl asks for them: `probs` holds the reward."""
        rewards = await self._rewards(self._conversations(body), request, response)
        data = [
            {"index": place, "label": None, "probs": [reward.value], "num_classes": 1}
            for place, reward in enumerate(rewards)
        ]
        return self._listed("classify", data, rewards)

    async def embeddings(self, body: PoolingBody, request: Request, response: Response) -> dict[str, Any]:
        """Rewards in the shape of an embedding of one dimension, as verl asks for them."""
        rewards = await self._rewards(self._conversations(body), request, response)
        data = [
            {"index": place, "object": "embedding", "embedding": [reward.value]} for place, reward in enumerate(rewards)
        ]
        return self._listed("embd", data, rewards)

    async def compare(self, body: CompareBody, request: Request, response: Response) -> dict[str, Any]:
        """How often each response of a prompt wins against the others, every pair judged in both orders."""
        judging = self._in_force(response)
        sample: Named = ("responses", ResponseSet(_prompt_id(body.prompt), body.prompt, tuple(body.responses)))
        label = await self._service.compared(judging, sample, _client(request))
        return {**label.values(), "principles": judging.digest}

    async def principles(self, response: Response) -> dict[str, Any]:
        """The principles in force."""
        return self._in_force(response).record()

    async def replace_principles(self, body: PrinciplesBody, response: Response) -> dict[str, Any]:
        """Other principles, for requests that come from now on."""
        self._service.replace_principles(body.sets)
        return self._in_force(response).record()

    async def health(self) -> dict[str, Any]:
        """That the server answers, and how much waits."""
        service = self._service
        return {
            "status": "ok",
            "model": service.model,
            "method": service.judging.method,
            "waiting": service.batcher.waiting_jobs,
        }

    async def metrics(self) -> Response:
        """What was counted, for Prometheus."""
        metrics = self._service.metrics
        return Response(metrics.text(), media_type=metrics.CONTENT_TYPE)

    async def _rewards(self, samples: Sequence[NamedResponse], request: Request, response: Response) -> list[Reward]:
        labels = await self._service.scored(self._in_force(response), samples, _client(request))
        return [reward_of(label, sample.response) for label, (_, sample) in zip(labels, samples, strict=True)]

    def _in_force(self, response: Response) -> Judging:
        """What the request is judged by; the answer carries its hash."""
        judging = self._service.judging
        if judging.digest:
            response.headers[PRINCIPLES_HEADER] = judging.digest
        return judging

    def _row(self, **brought: Any) -> dict[str, Any]:
        """What a response's row has beside it: the rubric that a request brought, where it is judged by that.

        Raises Refused for a rubric that nobody would read.
        """
        column = self._service.judging.rubric_column
        if brought.get("rubric") is not None and column != "rubric":
            raise Refused(422, "is not read; start the server with --method rubric --rubric-column rubric", "rubric")
        return {} if column is None else {column: brought.get(column)}

    def _conversations(self, body: PoolingBody) -> list[NamedResponse]:
        if body.messages is not None:
            *prompt, last = [Message(turn.role, turn.content) for turn in body.messages]
            if prompt[-1].role != "user":
                raise Refused(422, "the response must follow a message of the user", "messages")
            return [("messages", _answer(tuple(prompt), last.content))]
        found = []
        for number, text in enumerate(body.input or []):
            field = f"input[{number}]"
            found.append(_sample(field, *self._markup.of_rendered(text, field)))
        return found

    def _listed(self, kind: str, data: Sequence[dict[str, Any]], rewards: Sequence[Reward]) -> dict[str, Any]:
        tokens = sum(reward.prompt_tokens for reward in rewards)
        return {
            "id": f"{kind}-{uuid.uuid4().hex}",
            "object": "list",
            "created": int(time.time()),
            "model": self._service.model,
            "data": data,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }


def build_app(service: Service, markup: Markup) -> FastAPI:
    """The application; while it is up, the service's queue runs."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        running = asyncio.ensure_future(service.batcher.run())
        try:
            yield
        finally:
            service.close()
            await running

    app = FastAPI(title="preftree", summary="Rewards from a local LLM judge.", lifespan=lifespan)
    app.include_router(Routes(service, markup).router)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _failed)
    return app


class _StrictRequest(Request):
    """JSON as rows of a file are read: no key twice, no half characters, not too deep."""

    async def json(self) -> Any:
        try:
            return parse(await self.body())
        except BadRow as error:
            raise HTTPException(400, str(error)) from None


class _StrictRoute(APIRoute):
    def get_route_handler(self) -> Any:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strict


def _sample(field: str, prompt: str, response: str, row: Mapping[str, Any] = _NO_COLUMNS) -> NamedResponse:
    """Raises Refused where nothing is left of one of them."""
    for name, text in (("prompt", prompt), ("response", response)):
        if not text.strip():
            raise Refused(422, f"its {name} is blank", field)
    return field, _answer((Message("user", prompt),), response, row)


def _answer(prompt: tuple[Message, ...], response: str, row: Mapping[str, Any] = _NO_COLUMNS) -> Answer:
    return Answer(_prompt_id(prompt), prompt, response, row)


def _prompt_id(prompt: tuple[Message, ...]) -> str:
    """In place of a row's id: what is drawn by it (see --draw) is the same for all responses to a prompt."""
    return hashlib.sha256(json.dumps(prompt).encode()).hexdigest()


def _client(request: Request) -> str:
    """Whose turn a request is of: what the header names, else the address."""
    return request.headers.get(CLIENT_HEADER) or (request.client.host if request.client else "")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse(error.body, error.status, error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(Refused(error.status_code, str(error.detail)).body, error.status_code, error.headers)


async def _failed(_: Request, error: Exception) -> Response:
    """What went wrong in the server itself; `Guard` logs it."""
    return await _refused(_, Refused(500, f"internal error: {type(error).__name__}"))


async def _invalid(request: Request, error: Exception) -> Response:
    """The first thing that is wrong with a body."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    names = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"][1:]]
    message = str(first["msg"]).removeprefix("Value error, ")
    return await _refused(request, Refused(422, message, "".join(names).removeprefix(".") or None))
