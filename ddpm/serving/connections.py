"""A connection on which no request comes, or whose answer nobody takes, is not kept open."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http import h11_impl

HEAD_SECONDS = 10.0  # in which a request's head must have come
TAKE_SECONDS = 60.0  # in which a caller must take some of an answer that is larger than what may wait on the line


class Patient(h11_impl.H11Protocol):
    """uvicorn's connection, closed where the head of a request does not come in time, or its answer is not taken; uvicorn
    would wait for ever."""

    _waits: asyncio.TimerHandle | None = None
    _offers: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._waits, self._offers):
            if timer:
                timer.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._offers = asyncio.get_running_loop().call_later(TAKE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._offers:
            self._offers.cancel()

    def _look(self) -> None:
        """Begin to wait where a head is begun, or none has come at all; stop where it is there."""
        incomplete = self.conn.their_state is h11_impl.h11.IDLE
        if incomplete and not self._waits:
            self._waits = asyncio.get_running_loop().call_later(HEAD_SECONDS, self.transport.close)
        elif not incomplete and self._waits:
            self._waits.cancel()
            self._waits = None
