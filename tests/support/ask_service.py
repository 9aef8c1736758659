"""What a program in the cluster asks of the server, through its Service: run in a pod, it prints the answers as JSON.

Arguments: the Service's URL, a token of scope write, one of scope read.
"""

import json
import sys
import urllib.error
import urllib.request
from typing import Any

URL, WRITING, READING = sys.argv[1:]


def ask(token: str | None, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Send a request; returns the status and what came back."""
    headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{URL}{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def follow(job_id: int) -> list[str]:
    """Listen to a job's events until it is finished; returns its states."""
    headers = {"Authorization": f"Bearer {READING}"}
    request = urllib.request.Request(f"{URL}/api/v1/jobs/{job_id}/events", headers=headers)
    with urllib.request.urlopen(request, timeout=60) as stream:
        return [json.loads(line[5:])["state"] for line in stream if line.startswith(b"data:")]


submitted = ask(WRITING, "POST", "/api/v1/jobs", {"type": "surroundings"})
states = follow(submitted[1]["id"])
shown = ask(READING, "GET", f"/api/v1/jobs/{submitted[1]['id']}")
answers = {
    "nobody": ask(None, "GET", "/api/v1/jobs")[0],
    "wrong": ask("wj_wrong", "GET", "/api/v1/jobs")[0],
    "reading": ask(READING, "POST", "/api/v1/jobs", {"type": "surroundings"})[0],
    "probe": ask(None, "GET", "/healthz")[0],
    "submitted": submitted[0],
    "states": states,
    "shown": shown,
    "workers": ask(READING, "GET", "/api/v1/workers")[1]["workers"],
    "audit": ask(READING, "GET", "/api/v1/audit?limit=1")[1]["entries"],
}
print(json.dumps(answers))
