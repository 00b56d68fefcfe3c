"""A client with transactions: its store is a file that one process at a time may change."""
import fcntl
import json
import os
import sys

FILE = sys.argv[1]
FORGETFUL = "--forgetful" in sys.argv  # goes by what it had read before it was its turn


def transaction(state, before, micro):
    """Carries out micro-operations; gives back what they came to."""
    done, held, seen = [], state.setdefault("keys", {}), dict(before.get("keys", {}))
    for name, key, value in micro:
        if name == "append":
            held[key] = seen[key] = seen.get(key, []) + [value]
        elif name == "w":
            held[key] = seen[key] = value
        else:
            value = seen.get(key)
        done.append([name, key, value])
    return done


def accounts(state, named):
    """Every account begins with 10."""
    balances = state.setdefault("accounts", {})
    for account in named:
        balances.setdefault(account, 10)
    return balances


def carry_out(state, before, f, value):
    if f == "txn":
        return {"type": "ok", "value": transaction(state, before, value)}
    if f == "read":
        balances = accounts(state, value)
        return {"type": "ok", "value": {account: balances[account] for account in value}}
    if f == "transfer":
        balances = accounts(state, [value["from"], value["to"]])
        if balances[value["from"]] < value["amount"]:
            return {"type": "fail", "error": "overdrawn"}
        balances[value["from"]] -= value["amount"]
        balances[value["to"]] = before.get("accounts", {}).get(value["to"], 10) + value["amount"]
        return {"type": "ok"}
    return {"type": "fail", "error": "unknown-function"}


def load():
    try:
        with open(FILE) as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


lock = open(FILE + ".lock", "w")
for line in sys.stdin:
    op = json.loads(line)
    earlier = load()
    fcntl.flock(lock, fcntl.LOCK_EX)
    state = load()
    before = earlier if FORGETFUL else state
    answer = carry_out(state, before, op["f"], op["value"])
    with open(FILE + ".new", "w") as file:
        json.dump(state, file)
    os.replace(FILE + ".new", FILE)
    fcntl.flock(lock, fcntl.LOCK_UN)
    print(json.dumps(answer), flush=True)
