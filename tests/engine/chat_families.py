"""Chat templates in the styles of families that people label with, and their control tokens. Texts are ours."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """control: its tokens, BOS first; plain: those that are added but not special. rstrip: those that swallow the
    whitespace behind them. is_open: the template ends the last response without a control token. answer: what preftree
    adds to the generation prompt."""

    template: str
    control: tuple[str, ...]
    eos: str
    plain: tuple[str, ...] = ()
    rstrip: tuple[str, ...] = ()
    is_sentencepiece: bool = False
    has_bos: bool = True
    is_open: bool = False
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
# In the last response only: an empty block of thoughts, and no line feeds in front.
QWEN_3_TURNS = Family(
    "{%- set ns = namespace(last=messages|length - 1, found=false) %}{%- for m in messages[::-1] %}"
    "{%- if m.role == 'user' and not ns.found %}{%- set ns.found = true %}"
    "{%- set ns.last = messages|length - 1 - loop.index0 %}{%- endif %}{%- endfor %}{%- for m in messages %}"
    "{%- if m.role == 'assistant' and loop.index0 > ns.last and loop.last %}"
    "{{- '<|im_start|>assistant\n<think>\n\n</think>\n\n' + m.content.lstrip('\n') + '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- if enable_thinking is false %}"
    "{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}",
    QWEN_25.control,
    "<|im_end|>",
    plain=("<think>", "</think>"),
    has_bos=False,
)
GLM_45 = Family(
    "[gMASK]<sop>{%- macro visible(content) -%}{%- if content is string -%}{{- content }}{%- else -%}"
    "{%- for item in content -%}{{- item.text }}{%- endfor -%}{%- endif -%}{%- endmacro -%}"
    "{% for m in messages %}{% if m.role == 'user' %}<|user|>\n{{ visible(m.content) }}"
    "{{- '/nothink' if enable_thinking is defined and not enable_thinking else '' -}}"
    "{%- elif m.role == 'assistant' %}<|assistant|>{{ '\n<think></think>\n' + m.content }}"
    "{%- elif m.role == 'system' %}<|system|>\n{{ visible(m.content) }}{%- endif %}{% endfor %}"
    "{%- if add_generation_prompt %}<|assistant|>{{- '\n<think></think>' if enable_thinking is false else '' }}"
    "{%- endif %}",
    ("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"),
    "<|endoftext|>",
    plain=("<think>", "</think>"),
    has_bos=False,
    is_open=True,
)
DEEPSEEK_31 = Family(
    "{% if not thinking is defined %}{% set thinking = false %}{% endif %}"
    "{% set ns = namespace(system='', is_first=true, is_user=false) %}{%- for m in messages %}"
    "{%- if m['role'] == 'system' %}{%- if ns.is_first %}{% set ns.system = ns.system + m['content'] %}"
    "{% set ns.is_first = false %}{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system }}"
    "{%- for m in messages %}{%- if m['role'] == 'user' %}{%- set ns.is_user = true -%}"
    "{{ '<｜User｜>' + m['content'] }}{%- endif %}{%- if m['role'] == 'assistant' %}{%- set ns.is_user = false -%}"
    "{{ '<｜Assistant｜></think>' + m['content'] + '<｜end▁of▁sentence｜>' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt and ns.is_user %}{{ '<｜Assistant｜>' }}{%- if not thinking %}{{ '</think>' }}"
    "{%- else %}{{ '<think>' }}{%- endif %}{% endif %}",
    ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "<｜end▁of▁sentence｜>",
    plain=("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
)
COHERE_2 = Family(
    "{% macro preamble(text) %}<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|># System Preamble\n{{ text }}"
    "<|END_OF_TURN_TOKEN|>{% endmacro %}{{ bos_token }}{{ preamble('You are helpful. ' + ({'a': 'é'} | tojson)) }}"
    "{%- for m in messages %}{%- set role = m.role|lower %}{%- if role not in ('system', 'user', 'assistant') %}"
    "{{ raise_exception('no such role') }}{%- endif %}"
    "<|START_OF_TURN_TOKEN|>"
    "{{ {'system': '<|SYSTEM_TOKEN|>', 'user': '<|USER_TOKEN|>'}.get(role, '<|CHATBOT_TOKEN|>') }}"
    "{%- if role == 'assistant' %}{{ '<|START_RESPONSE|>' + m.content + '<|END_RESPONSE|>' }}"
    "{%- else %}{{ m.content }}{%- endif %}<|END_OF_TURN_TOKEN|>{%- endfor %}"
    "{%- if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>{%- endif %}",
    (
        *("<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>"),
        *("<|CHATBOT_TOKEN|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ),
    "<|END_OF_TURN_TOKEN|>",
)
EXAONE_4 = Family(
    "{%- if not skip_think is defined %}{%- set skip_think = true %}{%- endif %}{%- for m in messages %}"
    "{%- if m.role == 'assistant' %}{{- '[|assistant|]\n' }}{%- generation %}{{- m.content }}{{- '[|endofturn|]\n' }}"
    "{%- endgeneration %}{%- continue %}{%- endif %}{{- '[|' ~ m.role ~ '|]\n' ~ m.content }}"
    "{{- '[|endofturn|]\n' if m.role == 'system' or loop.last else '\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '[|assistant|]\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is true %}{{- '<think>\n' }}"
    "{%- else %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}",
    ("[BOS]", "[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]"),
    "[|endofturn|]",
    plain=("<think>", "</think>"),
    has_bos=False,
)
HUNYUAN = Family(
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' %}"
    "{{ messages[0]['content'] + '<｜hy_place▁holder▁no▁3｜>' }}{%- set messages = messages[1:] %}{%- endif %}"
    "{%- for m in messages %}{%- if m.role == 'user' %}{{ '<｜hy_User｜>' + m.content }}{%- else %}"
    "{{ '<｜hy_Assistant｜>' + m.content + '<｜hy_place▁holder▁no▁2｜>' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<｜hy_Assistant｜>' }}{%- if enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n' }}{%- endif %}{%- endif %}",
    (
        *("<｜hy_begin▁of▁sentence｜>", "<｜hy_place▁holder▁no▁3｜>", "<｜hy_User｜>", "<｜hy_Assistant｜>"),
        "<｜hy_place▁holder▁no▁2｜>",
    ),
    "<｜hy_place▁holder▁no▁2｜>",
)
GEMMA_3 = Family(
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- set prefix = messages[0]['content'] + '\n\n' -%}"
    "{%- set turns = messages[1:] -%}{%- else -%}{%- set prefix = '' -%}{%- set turns = messages -%}{%- endif -%}"
    "{%- for m in turns -%}{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('roles must alternate') }}{%- endif -%}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}"
    "{{ prefix if loop.first else '' }}"
    "{{ m['content'] | trim }}{{ '<end_of_turn>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}",
    GEMMA.control,
    "<eos>",
    plain=GEMMA.plain,
    is_sentencepiece=True,
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
    "qwen 3 turns": QWEN_3_TURNS,
    "glm 4.5": GLM_45,
    "deepseek 3.1": DEEPSEEK_31,
    "cohere 2": COHERE_2,
    "exaone 4": EXAONE_4,
    "hunyuan": HUNYUAN,
    "gemma 3": GEMMA_3,
    "gpt-oss": GPT_OSS,
}
