"""What an erasure did to the files of landing, a line a step: so a thousand files cost a thousand lines, and a kill the work on one file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

from waymark.core.home import Home, sync_folder
from waymark.ingestion.erasing import Copy


class LandingJournal:
    """Of one request, until its pass over landing is done. It holds names and digests of files, for the home's owner alone."""

    def __init__(self, home: Home, request_id: str) -> None:
        self.path = home.privacy / f".landing-{request_id}.jsonl"

    def read(self) -> tuple[list[Copy], Copy | None]:
        """What was done, in order; and what was begun last, if nobody wrote down that it was done."""
        done, begun = list[Copy](), None
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                (step, told), *_ = json.loads(line).items()
            except ValueError:  # a kill came while it was written
                continue
            copy = Copy(**told)
            if step == "done":
                done.append(copy)
            begun = copy if step == "begun" else None
        return done, begun

    def begin(self, copy: Copy) -> None:
        """Says, durably, what is about to become of a file."""
        self._write("begun", copy)

    def end(self, copy: Copy) -> None:
        """The same once it is so."""
        self._write("done", copy)

    def forget(self) -> None:
        """Removes it, and what a kill left of other requests'."""
        for path in sorted(self.path.parent.glob(".landing-*.jsonl")):
            path.unlink()
        sync_folder(self.path.parent)

    def _write(self, step: str, copy: Copy) -> None:
        is_new = not self.path.exists()
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"\n{json.dumps({step: asdict(copy)})}\n")  # a blank line parts it from a half of one
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folder(self.path.parent)
