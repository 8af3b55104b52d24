"""Runs inside lm-eval's environment, so imports nothing of this repository: ``python inside.py MODEL ATTENTION``.

Reads an order a line from standard input and writes its answer as a line to standard output, both JSON:

  tasks       each {name, base, config}. Without base a task of its own; else lm-eval's task of that name, changed by
              config. A task is made when its name first comes
  batch_size  rows of a forward pass
  out         null, or the file for an object a question: id, prompt, log_likelihoods, without_question, metrics; of
              a text: id, log_likelihood
  documents   null, or how many of each task's documents

The answer: ``cpu_seconds`` of the whole process from the documents to the scores, ``results`` by task and metric, and
``left_out``: by id, why lm-eval cannot score a question as it is meant. That is looked for only where ``out`` is given,
and not counted.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lm_eval
import torch
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._factory import TaskFactory

FOLDERS = ("medqa", "medmcqa", "pubmedqa", "mmlu/default", "mmlu/continuation")
TEMPLATES = [Path(lm_eval.__file__).parent / "tasks" / name for name in FOLDERS]
FEWSHOT_SEED = 1234  # lm-eval's own; the samplers used here draw nothing


def make(specification: Mapping[str, Any], manager: TaskManager) -> ConfigurableTask:
    if specification["base"] is None:
        task = ConfigurableTask(config={"task": specification["name"], **specification["config"]})
    else:
        # Not by TaskManager.load, which takes a dictionary for a task of its own.
        entry = manager.task_index[specification["base"]]
        overrides = specification["config"] | {"task": specification["name"]}
        task = TaskFactory().build(entry, overrides=overrides, registry=manager.task_index)
    if task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)
    return task


def unfit(lm: HFLM, task: ConfigurableTask) -> dict[int, str]:
    """By number of the document: why lm-eval fails on it, or does not score the text that it was given."""
    task.build_all_requests()
    found: dict[int, str] = {}
    for request in task.instances:
        if len(request.args) == 1:  # a text, which it reads in windows
            continue
        context, continuation = request.args
        if context == "":
            continue
        given, scored = lm._encode_pair(context, continuation)
        if not scored:
            found[request.doc_id] = "an option is left without tokens"
        elif given + scored != lm.tok_encode(context + continuation):
            found[request.doc_id] = "a token spans the join"
        elif len(given) + len(scored) > lm.max_length + 1:
            found[request.doc_id] = "too long: it would be cut from the left"
    return found


def run(lm: HFLM, tasks: Mapping[str, ConfigurableTask], order: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {name: list(range(len(task.eval_docs)))[: order["documents"]] for name, task in tasks.items()}
    left_out: dict[str, str] = {}
    if order["out"]:
        for name, task in tasks.items():
            reasons = unfit(lm, task)  # one of them alone may end the whole run
            left_out |= {task.eval_docs[number]["id"]: reason for number, reason in reasons.items()}
            numbers[name] = [number for number in numbers[name] if number not in reasons]
    samples = {name: kept for name, kept in numbers.items() if kept}
    lm.batch_size_per_gpu = order["batch_size"]
    loaded = {"tasks": {name: tasks[name] for name in samples}, "groups": {}, "group_map": {}}
    start = time.process_time()
    results = lm_eval.evaluate(
        lm=lm, task_dict=loaded, samples=samples, bootstrap_iters=0, log_samples=bool(order["out"])
    )
    seconds = time.process_time() - start
    if order["out"]:
        scored = [question for documents in results["samples"].values() for question in documents]
        Path(order["out"]).write_text("".join(json.dumps(line(question)) + "\n" for question in scored))
    found = {
        task: {key.removesuffix(",none"): value for key, value in metrics.items() if isinstance(value, float)}
        for task, metrics in results["results"].items()
    }
    return {"cpu_seconds": seconds, "results": found, "left_out": left_out}


def line(question: Mapping[str, Any]) -> dict[str, Any]:
    if len(question["arguments"][0]) == 1:
        [[log_likelihood]] = question["resps"]
        log_likelihood = log_likelihood[0] if isinstance(log_likelihood, list | tuple) else log_likelihood
        return {"id": question["doc"]["id"], "log_likelihood": float(log_likelihood)}
    contexts = [context for context, *_ in question["arguments"]]
    sums = [float(response[0][0]) for response in question["resps"]]
    options = sum(context != "" for context in contexts)  # after them come the same without the question, if asked for
    return {
        "id": question["doc"]["id"],
        "prompt": contexts[0],
        "log_likelihoods": sums[:options],
        "without_question": sums[options:],
        "metrics": {metric: float(question[metric]) for metric in question["metrics"]},
    }


def main() -> None:
    model, attention = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints must not come between the answers
    torch.set_num_threads(1)
    lm = HFLM(pretrained=model, device="cpu", dtype="float32", batch_size=1, attn_implementation=attention)
    manager = TaskManager(include_defaults=False, include_path=TEMPLATES)
    made: dict[str, ConfigurableTask] = {}
    for order in map(json.loads, sys.stdin):
        for specification in order["tasks"]:
            if specification["name"] not in made:
                made[specification["name"]] = make(specification, manager)
        answer = run(lm, {one["name"]: made[one["name"]] for one in order["tasks"]}, order)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
