"""The same pictures by the Open Inference Protocol (KServe's v2), for clients that speak it: JSON, without extensions.

In goes a tensor `seed`, INT64 [n], and, as parameters, how they are drawn; out comes `image`, UINT8 [n,h,w,3].
"""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Literal

import torch
from fastapi import APIRouter, Request
from fastapi import Path as InPath
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from ddpm.errors import WrongInput
from ddpm.serving.problems import REFUSALS, Problem, refusal
from ddpm.serving.server import Drawn, Server
from ddpm.serving.versions import FIXED, VERSION, Served
from ddpm.serving.wishes import How, Seed, require_few

Name = Annotated[str, InPath(max_length=300, description="the model's name", examples=["ddpm-digits"])]
Version = Annotated[str, InPath(max_length=100, description="a version's number, or an alias", examples=["champion"])]

# A client's wish for tensors in binary; the answer is JSON all the same, which says so by its head.
Binary = Annotated[bool, Field(description="no difference: tensors are in JSON")]


class Parameters(How):
    """How the pictures are drawn; what is not said is the version's own way."""

    model_config = ConfigDict(extra="forbid", strict=True)

    binary_data_output: Binary = False


class SeedTensor(BaseModel):
    """Which pictures."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Literal["seed"]
    datatype: Literal["INT64"]
    shape: list[int] = Field(min_length=1, max_length=1, description="[n]")
    data: list[Seed] = Field(min_length=1)
    parameters: dict[str, Any] | None = Field(None, max_length=0)


class WantedParameters(BaseModel):
    """How it is to come back."""

    model_config = ConfigDict(extra="forbid", strict=True)

    binary_data: Binary = False


class WantedTensor(BaseModel):
    """What is to come back."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Literal["image"]
    parameters: WantedParameters | None = None


class Inference(BaseModel):
    """A request of the protocol."""

    model_config = ConfigDict(
        extra="forbid", strict=True,
        json_schema_extra={"examples": [{"inputs": [{"name": "seed", "datatype": "INT64", "shape": [2], "data": [3, 4]}]}]},
    )  # fmt: skip

    id: str | None = Field(None, max_length=200)
    model_name: str | None = Field(None, description="the one in the path, as KServe's client repeats it")
    parameters: Parameters = Field(default_factory=lambda: Parameters.model_validate({}))
    inputs: list[SeedTensor] = Field(min_length=1, max_length=1)
    outputs: list[WantedTensor] | None = Field(None, min_length=1, max_length=1)


class ImageTensor(BaseModel):
    """Pictures, row by row of each, red, green and blue."""

    name: str
    datatype: str
    shape: list[int]
    data: list[int]


class Inferred(BaseModel):
    """An answer of the protocol; its parameters say which version drew each picture, and with which guidance."""

    model_name: str
    model_version: str | None = Field(None, description="left out where two versions share the seeds, with a canary")
    id: str | None = None
    parameters: dict[str, Any]
    outputs: list[ImageTensor]


def v2_routes(server: Server) -> APIRouter:
    """The protocol's paths, with and without a version in them."""
    # Triton's client says no content type.
    router, versions = APIRouter(tags=["KServe v2"], strict_content_type=False), server.versions
    responses = {**REFUSALS, 404: refusal("no such model or version is served")}

    def alias_of(name: str, version: str | None = None) -> str | None:
        """Who answers; None: whoever does where nobody asks for a version. Raises Problem, 404."""
        now = versions.by_alias
        if name != name_of(server):
            raise Problem(404, f"model: there is no such model here; there is {name_of(server)}")
        for alias, served in now.items():
            if version in (alias, number_of(alias, served)):
                return alias
        if version is not None:
            there = [number_of(alias, served) for alias, served in now.items()]
            raise Problem(404, f"version: no such version is served; there is {' and '.join([*there, *now])}")
        return None

    @router.get("/v2")
    async def about() -> dict[str, Any]:
        """What this server is."""
        return {"name": "ddpm", "version": "1", "extensions": []}

    @router.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        """Whether the process answers."""
        return {"live": True}

    @router.get("/v2/health/ready")
    async def ready() -> dict[str, bool]:
        """Whether pictures are drawn."""
        return {"ready": True}

    @router.get("/v2/models/{name}/versions/{version}", responses=responses)
    @router.get("/v2/models/{name}", responses=responses)
    async def model(name: Name, version: Version | None = None) -> dict[str, Any]:
        """Its versions, and the tensors that go in and come out."""
        alias, now = alias_of(name, version), versions.by_alias
        size = now[alias or versions.main].model.image_size
        return {
            "name": name, "platform": "ddpm", "versions": [number_of(alias, served) for alias, served in now.items()],
            "inputs": [{"name": "seed", "datatype": "INT64", "shape": [-1]}],
            "outputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, size, size, 3]}],
        }  # fmt: skip

    @router.get("/v2/models/{name}/versions/{version}/ready", responses=responses)
    @router.get("/v2/models/{name}/ready", responses=responses)
    async def model_ready(name: Name, version: Version | None = None) -> dict[str, Any]:
        """Whether it draws."""
        alias_of(name, version)
        return {"name": name, "ready": True}

    @router.post("/v2/models/{name}/versions/{version}/infer", responses={200: {"model": Inferred}, **responses})
    @router.post("/v2/models/{name}/infer", responses={200: {"model": Inferred}, **responses})
    async def infer(request: Request, name: Name, asked: Inference, version: Version | None = None) -> Response:
        """Pictures by seeds, as a tensor."""
        [tensor] = asked.inputs
        if tensor.shape != [len(tensor.data)]:
            raise WrongInput(f"shape: it must be [{len(tensor.data)}], as many as there are seeds in data")
        if asked.model_name not in (None, name):
            raise WrongInput("model_name: it is not the model in the path; leave it out, or ask at that model's path")
        alias = alias_of(name, version)
        require_few(len(tensor.data), server.settings)
        drawn = await server.pictures(request, asked.parameters, alias, tensor.data)
        return Response(await asyncio.to_thread(_as_json, name, asked.id, drawn), media_type="application/json")

    return router


def name_of(server: Server) -> str:
    """The model's name in the registry; `model` where it comes from none."""
    reference = server.versions.by_alias[server.versions.main].reference
    return found["name"] if (found := VERSION.fullmatch(reference)) else FIXED


def number_of(alias: str, served: Served) -> str:
    """A version's number in the registry; its alias where it has none."""
    return found["version"] if (found := VERSION.fullmatch(served.reference)) else alias


def _as_json(name: str, asked: str | None, drawn: list[Drawn]) -> bytes:
    images = torch.stack([one.picture for one in drawn]).permute(0, 2, 3, 1)  # uint8 [n,h,w,3]
    by = [number_of(one.by.alias, one.by.served) for one in drawn]
    guidance = [one.by.drawing.guidance for one in drawn]
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(images.shape), "data": images.flatten().tolist()}
    one_alone = {"model_version": by[0]} if len({*by}) == 1 else {}
    body = {"model_name": name, **one_alone, "parameters": {"versions": by, "guidance": guidance}, "outputs": [tensor]}
    return json.dumps(body if asked is None else {**body, "id": asked}).encode()
