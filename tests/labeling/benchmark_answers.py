"""Small files in the layouts of benchmarks of judges, with made-up texts, and made-up answers to them."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]

# Of each pair: source, label, P(A better) with A shown first, and with B shown first.
GAMES: list[tuple[str, str, float, float]] = [
    ("mmlu-pro-law", "A>B", 0.9, 0.6),
    ("mmlu-pro-law", "A>B", 0.9, 0.2),
    ("mmlu-pro-physics", "B>A", 0.3, 0.5),
    ("mmlu-pro-physics", "B>A", 0.7, 0.8),
    ("livebench-reasoning", "A>B", 0.5, 0.5),
    ("livebench-reasoning", "B>A", 0.1, 0.2),
    ("livebench-math", "A>B", 0.5, 0.4),
    ("livecodebench", "B>A", 0.4, 0.9),
]
JUDGE_BENCH: list[Row] = [
    {
        "pair_id": f"pair-{k}",
        "original_id": 100 + k,
        "source": source,
        "question": f"How many legs have {k} cats?",
        "response_model": "a-model",
        "response_A": f"There are {4 * k}.",
        "response_B": f"There are {4 * k + 1}.",
        "label": label,
    }
    for k, (source, label, _, _) in enumerate(GAMES)
]

# Of each pair: folder, label, P(output_1 better) with it shown first, and with it shown second.
OUTPUTS: list[tuple[str, int, float, float]] = [
    ("Natural", 1, 0.8, 0.9),
    ("Natural", 2, 0.8, 0.3),
    ("Natural", 2, 0.5, 0.5),
    ("Adversarial/Neighbor", 1, 0.2, 0.4),
    ("Adversarial/Neighbor", 2, 0.4, 0.1),
    ("Adversarial/Manual", 1, 0.7, 0.2),
]


def llmbar(folder: str) -> list[Row]:
    """The rows of one subset."""
    return [
        {"input": f"Name fruit {k}.", "output_1": f"Apple {k}.", "output_2": f"Brick {k}.", "label": label}
        for k, (where, label, _, _) in enumerate(OUTPUTS)
        if where == folder
    ]


# Of each prompt: domain, rewards of the three better responses, and of the three worse ones.
STYLED: list[tuple[str, list[float], list[float]]] = [
    ("chat", [1.0, 2.0, 3.0], [0.5, 2.0, 2.5]),
    ("chat", [0.0, 1.0, 0.5], [1.5, 0.75, 2.0]),
    ("math", [3.0, 1.0, 2.0], [0.0, 1.5, 2.5]),
    ("code", [1.0, 1.0, 1.0], [1.0, 0.0, 2.0]),
    ("safety-refuse", [2.0, 4.0, 1.0], [1.0, 3.0, 5.0]),
    ("safety-response", [0.5, 0.25, 2.0], [1.0, 0.0, 0.75]),
    ("safety-response", [4.0, 5.0, 6.0], [1.0, 2.0, 3.0]),
]
RM_BENCH: list[Row] = [
    {
        "id": k,
        "prompt": f"What is {k} and {k}?",
        "chosen": [f"{2 * k}{end}" for end in (".", ", as both are the same.", ", as **both** are the same.")],
        "rejected": [f"{2 * k + 1}{end}" for end in (".", ", as both are the same.", ", as **both** are the same.")],
        "domain": domain,
    }
    for k, (domain, _, _) in enumerate(STYLED)
]

# Of each prompt: id, subset, how many responses are right, and the rewards of all, right ones first.
BEST_OF: list[tuple[str, str, int, list[float]]] = [
    ("0", "Factuality", 1, [2.0, 1.0, 0.5, 0.0]),
    ("1", "Factuality", 1, [2.0, 2.0, 0.5, 2.0]),
    ("2", "Precise IF", 1, [0.0, 1.0, 0.5, 0.25]),
    ("3", "Math", 1, [1.0, -1.0, -2.0, 1.0]),
    ("4", "Math", 1, [4.0, -1.0, -2.0, 1.0]),
    ("ref:0", "Ties", 1, [3.0, 1.0, 0.0]),
    ("tied:0", "Ties", 3, [3.0, 2.5, 2.0, 1.0, 0.0]),
    ("ref:1", "Ties", 1, [1.0, 2.0, 0.0]),
    ("tied:1", "Ties", 2, [3.0, 2.75, 1.0]),
    ("tied:2", "Ties", 2, [3.0, 0.5, 1.0]),
    ("ref:2", "Ties", 1, [2.0, 1.0, 1.5]),
    ("ref:3", "Ties", 1, [2.0, 1.0]),
    ("ref:4", "Ties", 1, [2.0, 1.0, 0.5]),
    ("tied:4", "Ties", 2, [2.0, 2.0, 1.0, 0.5]),
]
REWARD_BENCH_2: list[Row] = [
    {
        "id": identity,
        "prompt": f"Name a colour, question {identity}.",
        "chosen": [f"Blue {k}." for k in range(number)],
        "rejected": [f"Stone {k}." for k in range(len(rewards) - number)],
        "num_correct": number,
        "num_incorrect": len(rewards) - number,
        "total_completions": len(rewards),
        "models": ["a-model"] * len(rewards),
        "subset": subset,
        "additional_metadata": None,
    }
    for identity, subset, number, rewards in BEST_OF
]

# Of each pair: subset, rewards of the chosen and of the rejected response.
SECTIONED: list[tuple[str, float, float]] = [
    ("alpacaeval-easy", 2.0, 1.0),
    ("alpacaeval-easy", 0.0, 1.0),
    ("mt-bench-med", 2.0, 1.0),
    ("llmbar-natural", 0.0, 1.0),
    ("llmbar-adver-GPTOut", 3.0, 1.0),
    ("donotanswer", 3.0, 1.0),
    ("xstest-should-respond", 3.0, 4.0),
    ("math-prm", 3.0, 1.0),
    ("hep-go", 3.0, 4.0),
    ("hep-rust", 3.0, 1.0),
]
REWARD_BENCH: list[Row] = [
    {
        "id": k,
        "prompt": f"Count to {k}.",
        "chosen": f"One to {k}.",
        "chosen_model": "x",
        "rejected": "No.",
        "rejected_model": "y",
        "subset": subset,
    }
    for k, (subset, _, _) in enumerate(SECTIONED)
]
