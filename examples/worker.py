#!/usr/bin/env python3
"""An Everfold worker: makes the attempts at activities of one task queue, over HTTP.

It needs Python 3.9 and nothing else. Everything above `ACTIVITIES` is the same for every worker; what is below is what this one
can do. docs/workers.md says how the protocol works.

    examples/worker.py --queue python --threads 4
"""

import argparse
import json
import os
import signal
import socket
import threading
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request

POLL_S = 30
"""How long one poll waits in the host."""
PAUSE_S = 1
"""Pause before a host that does not answer, or is busy, is asked again."""


class Failure(Exception):
    """What an activity raises to fail: its type is what retry policies and workflows go by."""

    def __init__(self, type, message, non_retryable=False, next_retry_delay=None, details=()):
        super().__init__(message)
        self.body = {"type": type, "message": message, "non_retryable": non_retryable, "details": list(details)}
        if next_retry_delay is not None:
            self.body["next_retry_delay"] = next_retry_delay


class Canceled(Exception):
    """The activity was asked to stop: clean up, and let it pass."""


class AttemptOver(Exception):
    """Nobody waits for this attempt any more: a time-out has passed, or its run has closed."""


class Host:
    """The host, asked again for as long as it is away."""

    def __init__(self, url, token, stopping):
        self.url, self.token, self.stopping = url.rstrip("/"), token, stopping

    def post(self, path, body, wait_s=0, give_up_at=None):
        """Gives the status and the answer. A refusal that asking again would not change is an answer too."""
        request = urllib.request.Request(
            self.url + path, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )
        if self.token:
            request.add_header("Authorization", "Bearer " + self.token)
        while True:
            try:
                with urllib.request.urlopen(request, timeout=wait_s + 30) as answer:
                    text = answer.read()
                    return answer.status, json.loads(text) if text else None
            except urllib.error.HTTPError as refusal:
                with refusal:
                    if refusal.code not in (500, 502, 503, 504):
                        return refusal.code, json.loads(refusal.read() or b"null")
            except (OSError, ValueError):
                pass  # It went away, maybe in the middle of an answer; saying the same twice does no harm.
            if give_up_at is not None and time.time() >= give_up_at:
                raise AttemptOver("the host does not answer")
            if self.stopping.wait(PAUSE_S) and give_up_at is None:
                return 204, None


class Task:
    """One attempt at an activity, and what its code may do."""

    def __init__(self, host, given):
        self.host, self.given = host, given
        self.attempt, self.input = given["attempt"], given["input"]
        self.key = given["idempotency_key"]
        """The same for all attempts: give it to whomever you call, so that a repeated attempt is recognised."""
        self.progress = given["heartbeat_details"]
        """What the last heartbeat of an attempt before this one said, or None."""

    def heartbeat(self, progress):
        """Says how far the attempt is. Raises `Canceled` if the activity is to stop."""
        wishes = self._report("heartbeat", {"details": progress})
        if wishes["cancel_requested"]:
            raise Canceled()

    def make(self, activity):
        """Runs the activity and reports how it ended."""
        try:
            result = activity(self, self.input)
        except Canceled:
            self._report("cancel", {})
        except AttemptOver:
            raise
        except Failure as failure:
            self._report("fail", {"failure": failure.body})
        except Exception as error:
            details = [traceback.format_exc()]
            body = {"type": type(error).__name__, "message": str(error), "details": details}
            self._report("fail", {"failure": body})
        else:
            self._report("complete", {"result": result})

    def _report(self, how, body):
        # A host that restarts still knows the lease: it is worth waiting for until nobody could want the result.
        path = "/api/v1/activities/" + self.given["token"] + "/" + how
        status, answer = self.host.post(path, body, give_up_at=time.time() + 600)
        if status in (404, 409):
            raise AttemptOver(answer["detail"])
        if status >= 400:
            if how == "complete":
                # The result is too large, say: that is a failure of the activity.
                return self._report("fail", {"failure": {"type": answer["code"], "message": answer["detail"]}})
            raise RuntimeError(f"{how}: {status} {answer}")
        return answer


def serve(host, queue, namespace, identity, activities, stopping):
    """Makes one attempt after the other until the worker is to stop."""
    query = urllib.parse.urlencode({"wait": f"{POLL_S}s", "namespace": namespace})
    path = f"/api/v1/task-queues/{urllib.parse.quote(queue, safe='')}/poll?{query}"
    body = {"identity": identity, "activity_types": sorted(activities)}
    while not stopping.is_set():
        status, given = host.post(path, body, wait_s=POLL_S)
        if status == 204:
            continue
        if status != 200:
            raise SystemExit(f"the host refuses the poll: {status} {given}")
        name, attempt = given["activity_type"], given["attempt"]
        print(f"{name}, attempt {attempt}, of {given['workflow_id']}", flush=True)
        try:
            Task(host, given).make(activities[name])
        except AttemptOver as reason:
            print(f"{name}, attempt {attempt}: {reason}", flush=True)


def main(activities):
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--url", default=os.environ.get("EVERFOLD_URL", "http://127.0.0.1:8233"))
    arguments.add_argument("--queue", default="python")
    arguments.add_argument("--namespace", default="default")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--identity", default=f"{socket.gethostname()}:{os.getpid()}")
    given = arguments.parse_args()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    host = Host(given.url, os.environ.get("EVERFOLD_TOKEN"), stopping)
    one = (host, given.queue, given.namespace, given.identity, activities, stopping)
    # Daemons: who stops does not wait for the end of a poll. An attempt that is cut off is made again.
    threads = [threading.Thread(target=serve, args=one, daemon=True) for _ in range(given.threads)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) and not stopping.wait(0.5):
        pass


def greet(task, name):
    """Returns a greeting."""
    if not isinstance(name, str) or not name:
        raise Failure("InvalidName", "a name is a text", non_retryable=True)
    return f"Hello, {name}!"


def flaky(task, input):
    """Fails as often as it is told, then tells which attempt it was."""
    if task.attempt <= input["failures"]:
        raise Failure("Unavailable", f"attempt {task.attempt} fails", next_retry_delay="10ms")
    return {"attempt": task.attempt, "key": task.key}


def count(task, input):
    """Counts, a number every `pause_s`, and goes on where the attempt before it stood."""
    first = task.progress["counted"] if task.progress else 0
    for number in range(first + 1, input["to"] + 1):
        task.heartbeat({"counted": number - 1})
        time.sleep(input["pause_s"])
    return {"counted": input["to"], "began_at": first, "attempt": task.attempt}


ACTIVITIES = {"greet": greet, "flaky": flaky, "count": count}

if __name__ == "__main__":
    main(ACTIVITIES)
