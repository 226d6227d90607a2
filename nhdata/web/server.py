"""Serve the app until Ctrl-C, which ends queries too."""

from __future__ import annotations

import threading
from types import FrameType

import uvicorn
from starlette.applications import Starlette


class Server(uvicorn.Server):
    """A server of the app, on this machine only as its sockets are.

    Parameters
    ----------
    app : Starlette
        From `nhdata.web.app.make_app`.
    """

    def __init__(self, app: Starlette) -> None:
        self._end_queries = app.state.end_queries
        super().__init__(
            uvicorn.Config(
                app, log_level="warning", access_log=False, server_header=False, ws="none", timeout_graceful_shutdown=2
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End at a signal; a query does not hold it up."""
        threading.Thread(target=self._end_queries).start()  # it waits, as a signal's handler must not
        super().handle_exit(sig, frame)
