"""A client of the reference store: read, write and cas of registers over its HTTP API."""
import json
import sys
import urllib.error
import urllib.request


def ask(address, method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{address}/v1/kv/{path}", data, method=method)
    with urllib.request.urlopen(request, timeout=4) as answer:
        return json.load(answer)


def carry_out(op):
    at, key, value = op["address"], op["key"], op["value"]
    if op["f"] == "read":
        return {"type": "ok", "value": ask(at, "GET", key)["value"]}
    if op["f"] == "write":
        ask(at, "PUT", key, {"value": value})
    elif op["f"] == "cas":
        ask(at, "POST", f"{key}/cas", {"old": value[0], "new": value[1]})
    else:
        return {"type": "fail", "error": "unknown-function"}
    return {"type": "ok"}


for line in sys.stdin:
    try:
        answer = carry_out(json.loads(line))
    except urllib.error.HTTPError as error:  # the store's own word
        said = json.load(error)
        answer = {"type": said["outcome"], "error": said["error"], "leader": said.get("leader")}
    except urllib.error.URLError as error:  # refused: certainly not done; else nobody knows
        refused = isinstance(error.reason, ConnectionRefusedError)
        answer = {"type": "fail" if refused else "info", "error": str(error.reason)}
    except OSError as error:
        answer = {"type": "info", "error": str(error)}
    print(json.dumps(answer), flush=True)
