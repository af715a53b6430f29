"""The peer of the service: the smallest FastAPI application with a model, as most services are written."""

from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Answer(BaseModel):
    """What the one route answers."""

    value: int


@app.get("/echo")
async def echo(value: int) -> Answer:
    """Give the number back."""
    return Answer(value=value)
