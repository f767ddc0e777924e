"""Calls every method of every public service through a client that grpcio-tools generated.

usage: every_call.py HOST:PORT GENERATED_FOLDER CALLS_FILE
"""

import importlib
import json
import pathlib
import sys

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory

PATIENCE_SECONDS = 30


def main():
    address, folder, calls_file = sys.argv[1:]
    sys.path.insert(0, folder)
    for path in sorted(pathlib.Path(folder).rglob("*_pb2.py")):
        importlib.import_module(".".join(path.relative_to(folder).with_suffix("").parts))
    calls = json.loads(pathlib.Path(calls_file).read_text())
    methods = {
        f"{service.full_name}/{method.name}": method
        for name in {file_of(path, folder) for path in pathlib.Path(folder).rglob("*_pb2.py")}
        for service in descriptor_pool.Default().FindFileByName(name).services_by_name.values()
        for method in service.methods
    }
    uncalled = methods.keys() - {call["method"] for call in calls}
    if uncalled:
        sys.exit(f"{calls_file} has no call of {', '.join(sorted(uncalled))}")
    with grpc.insecure_channel(address) as channel:
        for call in calls:
            answer = called(channel, methods[call["method"]], call)
            wanted = call.get("answer", {})
            if not includes(answer, wanted):
                sys.exit(f"{call['method']}: {answer} does not include {wanted}")
    print(f"python: {len(calls)} calls of {len(methods)} methods answered as expected")


def file_of(path, folder):
    return str(path.relative_to(folder)).replace("_pb2.py", ".proto")


def called(channel, method, call):
    """The answer, or the first message of a stream that includes what is wanted."""
    requests = call.get("requests", [call.get("request", {})])
    requests = [
        json_format.ParseDict(request, message_class(method.input_type)()) for request in requests
    ]
    kind = ("stream" if method.client_streaming else "unary") + (
        "_stream" if method.server_streaming else "_unary"
    )
    invoke = getattr(channel, kind)(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_class(method.output_type).FromString,
    )
    given = iter(requests) if method.client_streaming else requests[0]
    answer = invoke(given, timeout=PATIENCE_SECONDS)
    if not method.server_streaming:
        return as_json(answer)
    seen = []
    for message in answer:
        seen.append(as_json(message))
        if includes(seen[-1], call.get("answer", {})):
            answer.cancel()
            return seen[-1]
    return {"messages": seen}


def message_class(descriptor):
    return message_factory.GetMessageClass(descriptor)


def as_json(message):
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def includes(answer, wanted):
    """Whether all that is wanted is in an answer; of lists the first items."""
    if isinstance(wanted, dict):
        return isinstance(answer, dict) and all(
            key in answer and includes(answer[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(answer, list)
            and len(answer) >= len(wanted)
            and all(includes(one, other) for one, other in zip(answer, wanted))
        )
    return answer == wanted


main()
