"""An object store on this machine that speaks as much of S3 as pyarrow asks for."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase, BytesIO
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_XML = "<?xml version='1.0' encoding='UTF-8'?>"


class _Store(ThreadingHTTPServer):
    """objects: by bucket and key. parts: of uploads that are not complete, by upload and number."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Store

    def log_message(self, *_: object) -> None:
        pass

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        parts = urlsplit(self.path)
        self.key = unquote(parts.path).strip("/") + "/" * unquote(parts.path)[1:].endswith("/")
        self.query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        return True

    def do_HEAD(self) -> None:
        if "/" not in self.key:  # a bucket
            self._answer(200)
        elif (data := self.server.objects.get(self.key)) is None:
            self._answer(404)
        else:
            self._answer(200, data, {"Last-Modified": formatdate(usegmt=True), "ETag": _tag(data)})

    def do_GET(self) -> None:
        if "list-type" in self.query:
            self._list()
        elif (data := self.server.objects.get(self.key)) is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            first, last = re.findall(r"(\d+)-(\d+)", self.headers.get("Range", f"bytes=0-{len(data) - 1}"))[0]
            piece = data[int(first) : int(last) + 1]
            self._answer(206, piece, {"Content-Range": f"bytes {first}-{last}/{len(data)}", "ETag": _tag(data)})

    def do_PUT(self) -> None:
        data = self._body()
        if "uploadId" in self.query:
            self.server.parts[self.query["uploadId"]][int(self.query["partNumber"])] = data
        else:
            self.server.objects[self.key] = data
        self._answer(200, headers={"ETag": _tag(data)})

    def do_POST(self) -> None:
        self._body()
        if "uploads" in self.query:
            upload = str(len(self.server.parts))
            self.server.parts[upload] = {}
            said = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
        elif "delete" in self.query:
            said = "<DeleteResult></DeleteResult>"
        else:
            parts = self.server.parts[self.query["uploadId"]]
            self.server.objects[self.key] = b"".join(parts[number] for number in sorted(parts))
            said = "<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>"
        self._answer(200, (_XML + said).encode())

    def do_DELETE(self) -> None:
        self.server.objects.pop(self.key, None)
        self._answer(204)

    def _list(self) -> None:
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter")
        found: dict[str, str] = {}
        for name, data in sorted(self.server.objects.items()):
            bucket, _, key = name.partition("/")
            if bucket != self.key.strip("/") or not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folder = escape(prefix + rest.partition(delimiter)[0] + delimiter)
                found[folder] = f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
            else:
                when = "2026-01-01T00:00:00.000Z"
                about = f"<Key>{escape(key)}</Key><Size>{len(data)}</Size><LastModified>{when}</LastModified>"
                found[key] = f"<Contents>{about}</Contents>"
        about = f"<IsTruncated>false</IsTruncated><KeyCount>{len(found)}</KeyCount>"
        self._answer(200, f"{_XML}<ListBucketResult>{about}{''.join(found.values())}</ListBucketResult>".encode())

    def _body(self) -> bytes:
        """In chunks where the sender says so; those of AWS are inside of those of HTTP."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b"".join(_chunks(self.rfile))
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_chunked = "aws-chunked" in self.headers.get("Content-Encoding", "")
        return b"".join(_chunks(BytesIO(data))) if is_chunked else data

    def _answer(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _chunks(stream: BufferedIOBase) -> Iterator[bytes]:
    """Up to the empty one, and what follows on it."""
    while size := int(stream.readline().partition(b";")[0], 16):
        yield stream.read(size)
        stream.readline()
    while stream.readline().strip():
        pass


def _tag(data: bytes) -> str:
    return f'"{md5(data).hexdigest()}"'


@contextmanager
def object_store() -> Iterator[str]:
    """What follows the path of a URL, "s3://bucket/path" + it, to reach the store."""
    store = _Store()
    thread = threading.Thread(target=store.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"?endpoint_override=127.0.0.1:{store.server_port}&scheme=http&region=none"
    finally:
        store.shutdown()
        store.server_close()
