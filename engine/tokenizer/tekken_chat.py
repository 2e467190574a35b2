"""Chat templates for the versions of tekken.json, whose directories often have none.

They give what mistral-common (1.13, InstructTokenizerV3 to V13) makes of a request without tools and images, but that
it joins neighbouring turns of one role. Spaces at the end of a response are dropped.
"""

_TURNS = """{%- if loop.previtem is defined and loop.previtem.role == m.role %}
{{- raise_exception('user and assistant have to take turns') }}
{%- elif m.role == 'user' %}
{{- '[INST]' + opening + m.content + '[/INST]' }}
{%- elif m.role == 'assistant' %}
{{- m.content.rstrip(' ') + eos_token }}
"""
_END = """{%- else %}
{{- raise_exception('no such role: ' + m.role) }}
{%- endif %}
{%- endfor %}"""
# The system text opens the user's last turn.
_IN_LAST_TURN = (
    """{{- bos_token }}
{%- set has_system = messages[0].role == 'system' %}
{%- for m in (messages[1:] if has_system else messages) %}
{%- set opening = messages[0].content + '\\n\\n' if has_system and loop.revindex <= 2 else '' %}
"""
    + _TURNS
    + _END
)
_BEFORE_ALL = (
    """{{- bos_token }}
{%- set opening = '' %}
{%- for m in messages %}
"""
    + _TURNS
    + """{%- elif m.role == 'system' %}
{{- '[SYSTEM_PROMPT]' + m.content + '[/SYSTEM_PROMPT]' }}
"""
    + _END
)
TEMPLATES = {"v3": _IN_LAST_TURN} | dict.fromkeys(("v7", "v11", "v13"), _BEFORE_ALL)
