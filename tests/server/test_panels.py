"""Gradio behind the site: what it serves, what it refuses, and what becomes of work that nobody waits for."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from webui.server import gradio_app
from webui.server.gradio_app import import_gradio, in_thread, mount, refuses_files, self_test
from webui.server.listeners import PATIENCE, Listeners

pytestmark = pytest.mark.filterwarnings("ignore")  # Gradio's own

STARTED = threading.Event()
STOPPED = threading.Event()


def build(app):
    """Panels with everything that takes a file, and an event that never ends by itself."""
    import gradio as gr

    def slow(_):
        STARTED.set()
        try:
            for step in range(3000):
                time.sleep(0.02)
                yield str(step)
        finally:
            STOPPED.set()

    with gr.Blocks(analytics_enabled=False) as blocks:
        box, out = gr.Textbox(), gr.Textbox()
        for component in (gr.File(), gr.Image(type="filepath"), gr.Audio(type="filepath"), gr.Video()):
            component.change(lambda path: Path(path).read_text(), component, out, api_visibility="private")
        many = gr.File(file_count="multiple")
        many.change(lambda paths: Path(paths[0]).read_text(), many, out, api_visibility="private")
        box.change(slow, box, out, api_visibility="private")
        shown = gr.JSON()
        box.submit(lambda text: json.loads(text), box, shown, api_visibility="private")
    return blocks, {}


@pytest.fixture(scope="module")
def panels(run_site):
    running = run_site(build=build)
    end = time.monotonic() + 60
    while not running.site.panels.ready and time.monotonic() < end:
        assert not running.site.panels.reason
        time.sleep(0.1)
    return running


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary.txt"
    path.write_text("CANARY-7f3a")
    return path


def events_of(running, session: str, seconds: float = 10) -> str:
    """What the queue tells a session until its events are done."""
    answer = running.ask(f"/gradio_api/queue/data?session_hash={session}", timeout=seconds)
    return answer.body.decode()


def join(running, number: int, data: list, session: str):
    return running.post("/gradio_api/queue/join", {"data": data, "fn_index": number, "session_hash": session})


def test_what_the_page_needs_is_there(panels):
    health = panels.ask("/health").json()
    assert health["panels"] is True
    assert panels.ask("/config").status == 200
    for name in ("script", "style"):
        answer = panels.ask(panels.app.panels[name])
        assert answer.status == 200
        assert "immutable" in answer.headers["cache-control"]
        assert "unsafe-eval" not in answer.headers["content-security-policy"]
    assert panels.ask("/theme.css").status == 200


def test_the_main_page_stays_ours(panels):
    assert b"gradio_config" not in panels.ask("/").body


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_path_that_nobody_uploaded_is_refused_for_every_kind_of_file(panels, canary, number):
    for path in (str(canary), "/etc/passwd", "/dev/zero", "/dev/urandom", str(Path.cwd() / "start.py")):
        started = time.monotonic()
        value = {"path": path, "meta": {"_type": "gradio.FileData"}}
        session = f"s{number}{abs(hash(path))}"
        assert join(panels, number, [value], session).status == 200
        told = events_of(panels, session)
        assert '"success":false' in told
        assert "CANARY" not in told
        assert "root:" not in told
        assert time.monotonic() - started < 5
    assert not any("CANARY" in p.read_text(errors="replace") for p in temporary(panels).rglob("*") if p.is_file())


def test_a_list_of_paths_is_refused_too(panels, canary):
    join(panels, 4, [[{"path": str(canary), "meta": {"_type": "gradio.FileData"}}]], "many")
    told = events_of(panels, "many")
    assert "CANARY" not in told
    assert '"success":false' in told


def test_a_fifo_is_refused_at_once(panels, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    started = time.monotonic()
    join(panels, 0, [{"path": str(pipe), "meta": {"_type": "gradio.FileData"}}], "fifo")
    assert '"success":false' in events_of(panels, "fifo")
    assert time.monotonic() - started < 3


def test_a_value_with_a_path_in_it_is_no_file(panels, canary):
    text = json.dumps({"path": str(canary), "meta": {"_type": "gradio.FileData"}})
    join(panels, 6, [text], "value")
    told = events_of(panels, "value")
    assert "CANARY" not in told
    assert panels.ask(f"/gradio_api/file={canary}").status in (403, 404)
    assert not any(p.name == canary.name for p in temporary(panels).rglob("*"))


def temporary(panels) -> Path:
    return Path(os.environ["GRADIO_TEMP_DIR"])


def test_files_of_this_machine_are_not_served_by_their_path(panels, canary):
    folder = temporary(panels)
    sibling = folder.parent / (folder.name + "-evil")
    sibling.mkdir(exist_ok=True)
    (sibling / "c.txt").write_text("CANARY-7f3a")
    for path in (
        canary,
        sibling / "c.txt",
        f"{folder}/../{sibling.name}/c.txt",
        "/etc/passwd",
        "/ETC/passwd",
        "/ETC/../etc/passwd",
        f"{folder}/../../../../../../etc/passwd",
        f"{folder}/%2F..%2F..%2Fetc/passwd",
        f"{folder}/%252e%252e/x",
        "file:///etc/passwd",
        quote(str(Path.cwd() / "start.py")),
        quote(str(Path.cwd() / ".env")),
        "start.py",
        "C:/Windows/win.ini",
        "%5C%5Chost%5Cshare",
    ):
        answer = panels.ask(f"/gradio_api/file={path}")
        assert answer.status in (400, 403, 404), path
        assert b"CANARY" not in answer.body


@pytest.mark.parametrize("name", ["x.html", "x.svg", "x.xhtml", "x.pdf", "x.js", "x.xml", "x", "x.png.html"])
def test_an_uploaded_file_is_handed_over_and_never_runs_here(panels, name):
    answer = upload(panels, name, b"<svg onload=alert(1)><script>alert(1)</script>")
    path = answer.json()[0]
    served = panels.ask(f"/gradio_api/file={path}")
    assert served.status == 200
    assert served.headers["content-type"] == "application/octet-stream"
    assert served.headers["content-disposition"].startswith("attachment")
    assert served.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in served.headers["content-security-policy"]


def upload(panels, name: str, content: bytes):
    head = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    kind = "multipart/form-data; boundary=b"
    return panels.ask("/gradio_api/upload", "POST", head + content + b"\r\n--b--\r\n", Content_Type=kind)


@pytest.mark.parametrize("name", ["../../evil.txt", "..%2F..%2Fevil.txt", "/etc/evil.txt", "C:\\\\evil.txt", ".bashrc"])
def test_an_upload_stays_in_its_folder(panels, name):
    answer = upload(panels, name, b"x")
    if answer.status == 200:
        path = Path(answer.json()[0]).resolve()
        assert path.is_relative_to(temporary(panels).resolve())
    assert not Path("/etc/evil.txt").exists()


def test_form_bombs_are_refused_within_two_seconds(panels):
    kind = "multipart/form-data; boundary=b"
    field = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
    for body in (
        b"--b\r\n" + b"-" * 10_000_000,
        (field + b"x\r\n") * 100_000 + b"--b--\r\n",
        field + b"x" * 25_000_000 + b"\r\n--b--\r\n",
    ):
        started = time.monotonic()
        assert panels.ask("/gradio_api/upload", "POST", body, Content_Type=kind).status in (400, 413, 422)
        assert time.monotonic() - started < 4
        assert panels.ask("/health").status == 200


def test_the_folder_of_uploads_is_private_and_the_environment_is_clean(panels):
    assert temporary(panels).stat().st_mode & 0o777 == 0o700
    kept = {n for n in os.environ if n.startswith("GRADIO_")}
    assert kept == {"GRADIO_ANALYTICS_ENABLED", "GRADIO_ANALYTICS_MAX_EVENTS", "GRADIO_TEMP_DIR"}


def test_no_stub_file_is_written_beside_the_source():
    assert list(Path(gradio_app.__file__).parents[1].rglob("*.pyi")) == []


def test_work_that_nobody_listens_to_is_stopped_and_forgotten(panels):
    STARTED.clear()
    STOPPED.clear()
    assert join(panels, 5, ["x"], "alone").status == 200
    assert STARTED.wait(5)
    now = [time.monotonic()]
    listeners = panels.site.panels._listeners
    listeners._clock = lambda: now[0]
    queue = panels.site.panels._blocks._queue
    assert "alone" in queue.pending_messages_per_session
    end = time.monotonic() + 10
    while "alone" not in listeners._alone_since and time.monotonic() < end:
        time.sleep(0.1)
    now[0] += PATIENCE + 1
    assert STOPPED.wait(10)
    assert "alone" not in queue.pending_messages_per_session
    listeners._clock = time.monotonic


def test_a_listener_keeps_its_work():
    class Queue:
        def __init__(self) -> None:
            self.pending_messages_per_session = {"a": 1, "b": 1}
            self.pending_event_ids_session = {"a": {"1"}, "b": {"2"}}
            self.event_ids_to_events = {"1": 1, "2": 2}

        async def clean_events(self, session_hash: str) -> None:
            return None

    async def run() -> None:
        now, queue = [0.0], Queue()
        listeners = Listeners(queue, lambda: now[0])
        release = asyncio.Event()

        async def stream(*_):
            await release.wait()

        listening = asyncio.create_task(
            listeners.listen(stream, {"query_string": b"session_hash=a"}, None, None)  # type: ignore[arg-type]
        )
        await asyncio.sleep(0)
        await listeners.sweep()
        now[0] = PATIENCE + 1
        await listeners.sweep()
        assert set(queue.pending_messages_per_session) == {"a"}
        release.set()
        await listening
        await listeners.sweep()
        assert set(queue.pending_messages_per_session) == {"a"}  # its half minute begins now
        now[0] *= 2.1
        await listeners.sweep()
        assert queue.pending_messages_per_session == {}

    asyncio.run(run())


def test_too_many_waiting_events_are_refused_and_not_stored(panels):
    answers = [join(panels, 5, ["x"], f"crowd{n}").status for n in range(90)]
    assert answers.count(503) > 0
    assert answers.count(200) < 80
    queue = panels.site.panels._blocks._queue
    for session in [f"crowd{n}" for n in range(90)]:
        future = asyncio.run_coroutine_threadsafe(queue.clean_events(session_hash=session), panels.loop)
        future.result(5)


def test_the_self_test_notices_a_gradio_that_does_not_check(tmp_path, monkeypatch):
    def careless(blocks, port, **look):
        made = mount(blocks, port, **look)
        blocks.has_launched = False  # what Gradio itself leaves it at
        return made

    async def run() -> None:
        await in_thread(lambda: import_gradio(tmp_path / "tmp"))
        await self_test(tmp_path)
        monkeypatch.setattr(gradio_app, "mount", careless)
        with pytest.raises(RuntimeError, match="nobody uploaded"):
            await self_test(tmp_path)
        assert list(tmp_path.glob(".tmp-*")) == []

    before = dict(os.environ)
    try:
        asyncio.run(run())
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_the_self_test_notices_a_server_that_hands_out_files(tmp_path):
    async def generous(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"root:"})

    with pytest.raises(RuntimeError, match="by their path"):
        asyncio.run(refuses_files(generous, tmp_path / "x"))


def test_panels_that_cannot_be_built_are_left_out_with_a_reason(run_site):
    def broken(app):
        raise ValueError("no such component")

    running = run_site(build=broken)
    end = time.monotonic() + 60
    while not running.site.panels.reason and time.monotonic() < end:
        time.sleep(0.05)
    answer = running.ask("/config")
    assert answer.status == 404
    assert "no such component" in answer.json()["error"]["message"]
    assert running.ask("/").status == 200
    assert running.app.notices == [running.site.panels.reason]
