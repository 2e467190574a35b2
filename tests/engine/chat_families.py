"""Chat templates in the styles of families that people label with, and their control tokens. Texts are ours."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """control: its tokens, BOS first; plain: those that are added but not special. rstrip: those that swallow the
    whitespace behind them. answer: what preftree adds to the generation prompt."""

    template: str
    control: tuple[str, ...]
    eos: str
    plain: tuple[str, ...] = ()
    rstrip: tuple[str, ...] = ()
    is_sentencepiece: bool = False
    has_bos: bool = True
    answer: str = ""


LLAMA_3 = Family(
    "{{- bos_token }}\n{%- if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    "{%- if messages[0]['role'] == 'system' %}{% set system = messages[0]['content']|trim %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}{{- 'Today: 26 Jul 2024\\n\\n' }}{{- system }}"
    "{{- '<|eot_id|>' }}{%- for m in messages %}"
    "{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}",
    ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
    "<|eot_id|>",
)
_CHATML = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
QWEN_25 = Family(
    "{%- if tools %}{{- '<tool_call>' }}{%- endif %}{%- if messages[0].role != 'system' %}"
    "{{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}{%- endif %}" + _CHATML,
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    "<|im_end|>",
    plain=("<tool_call>", "</tool_call>"),
    has_bos=False,
)
QWEN_3 = Family(
    _CHATML + "{%- if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}",
    QWEN_25.control,
    "<|im_end|>",
    plain=("<think>", "</think>", "<tool_call>"),
    has_bos=False,
)
SMOLLM_2 = Family(
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}"
    + _CHATML,
    ("<|im_start|>", "<|im_end|>"),
    "<|im_end|>",
    has_bos=False,
)
PHI_3 = Family(
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    ("<s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"),
    "<|end|>",
    rstrip=("<|end|>", "<|system|>", "<|user|>", "<|assistant|>"),
    has_bos=False,
)
MISTRAL = Family(
    "{%- if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set loop_messages = messages[1:] %}"
    "{%- else %}{% set loop_messages = messages %}{%- endif %}{{- bos_token }}{%- for m in loop_messages %}"
    "{%- if m.role == 'user' %}{%- if loop.last and system is defined %}"
    "{{- '[INST] ' + system + '\\n\\n' + m.content + '[/INST]' }}{%- else %}{{- '[INST] ' + m.content + '[/INST]' }}"
    "{%- endif %}{%- else %}{{- ' ' + m.content + eos_token }}{%- endif %}{%- endfor %}",
    ("<s>", "</s>", "[INST]", "[/INST]"),
    "</s>",
    is_sentencepiece=True,
)
GEMMA = Family(
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{{ '<start_of_turn>' + m['role'] + '\n' + m['content'] | trim "
    "+ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
    "<eos>",
    plain=("\n\n", "\n\n\n", "\t\t"),
    is_sentencepiece=True,
)
ZEPHYR = Family(
    "{% for m in messages %}\n{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token }}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    ("<s>", "</s>"),
    "</s>",
    is_sentencepiece=True,
    has_bos=False,
)
GPT_OSS = Family(
    "{%- set today = strftime_now('%Y-%m-%d') %}"
    "{{- '<|start|>system<|message|>You judge.\\nReasoning: ' + (reasoning_effort | default('medium')) }}"
    "{{- '\\n# Valid channels: analysis, commentary, final.<|end|>' }}{%- set given = namespace(messages=messages) %}"
    "{%- if messages[0].role in ('developer', 'system') %}{%- set given.messages = messages[1:] %}"
    "{{- '<|start|>developer<|message|># Instructions\\n\\n' + messages[0].content + '\\n\\n<|end|>' }}{%- endif %}"
    "{%- for m in given.messages %}{%- if m.role == 'assistant' %}"
    "{{- '<|start|>assistant<|channel|>final<|message|>' + m.content }}"
    "{{- '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}"
    "{%- else %}{{- '<|start|>user<|message|>' + m.content + '<|end|>' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}",
    ("<|startoftext|>", "<|return|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>"),
    "<|return|>",
    has_bos=False,
    answer="<|channel|>final<|message|>",
)
FAMILIES = {
    "llama 3": LLAMA_3,
    "qwen 2.5": QWEN_25,
    "qwen 3": QWEN_3,
    "smollm 2": SMOLLM_2,
    "phi 3": PHI_3,
    "mistral": MISTRAL,
    "gemma": GEMMA,
    "zephyr": ZEPHYR,
    "gpt-oss": GPT_OSS,
}
