{{/* How NATS is reached, the built-in one or another: what every part of Moorgate is told of it. */}}

{{- define "moorgate.natsName" -}}
{{ include "moorgate.fullname" . }}-nats
{{- end }}

{{- define "moorgate.natsUrl" -}}
{{- if .Values.nats.builtin.enabled -}}
tls://{{ include "moorgate.natsName" . }}.{{ .Release.Namespace }}.svc:4222
{{- else -}}
{{ required "nats.url: give the address of your NATS, or set nats.builtin.enabled=true" .Values.nats.url }}
{{- end -}}
{{- end }}

{{/* By which names the built-in servers are called, separated by commas: what their certificate must say. */}}
{{- define "moorgate.natsHosts" -}}
{{- $name := include "moorgate.natsName" . -}}
{{ $name }}.{{ .Release.Namespace }}.svc,*.{{ $name }}-headless.{{ .Release.Namespace }}.svc,localhost,127.0.0.1
{{- end }}

{{/* The Secret of the users' passwords, one key a user; empty where NATS asks for none. */}}
{{- define "moorgate.natsUsersSecret" -}}
{{- if .Values.nats.builtin.enabled -}}
{{ include "moorgate.natsName" . }}-users
{{- else -}}
{{ .Values.nats.usersSecret }}
{{- end -}}
{{- end }}

{{/* The volume's sources, as text; empty where NATS needs none. Dict of root and user. */}}
{{- define "moorgate.natsSources" -}}
{{- $nats := .root.Values.nats }}
{{- with include "moorgate.natsUsersSecret" .root }}
- secret:
    name: {{ . | quote }}
    items: [{key: {{ $.user }}, path: password}]
{{- end }}
{{- if $nats.builtin.enabled }}
- secret:
    name: {{ include "moorgate.natsName" .root }}-tls
    items: [{key: ca.crt, path: ca.crt}]
{{- else }}
{{- include "moorgate.authoritiesSources" $nats.ca }}
{{- with $nats.credsSecret }}
- secret:
    name: {{ . | quote }}
    items: [{key: {{ $.user }}.creds, path: user.creds}]
{{- end }}
{{- with $nats.clientCertificateSecret }}
- secret:
    name: {{ . | quote }}
    items:
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
{{- end }}
{{- end }}
{{- end }}

{{/* MOORGATE_NATS_… of one user: dict of root and user. Its files come with natsVolume and natsVolumeMount. */}}
{{- define "moorgate.natsEnv" -}}
{{- $nats := .root.Values.nats -}}
- name: MOORGATE_NATS_URL
  value: {{ include "moorgate.natsUrl" .root }}
{{- if include "moorgate.natsUsersSecret" .root }}
- name: MOORGATE_NATS_USER
  value: {{ .user }}
- name: MOORGATE_NATS_PASSWORD_FILE
  value: /etc/moorgate/nats/password
{{- end }}
{{- if or $nats.builtin.enabled $nats.ca.secret $nats.ca.configMap }}
- name: MOORGATE_NATS_CA_FILE
  value: /etc/moorgate/nats/ca.crt
{{- end }}
{{- if and $nats.credsSecret (not $nats.builtin.enabled) }}
- name: MOORGATE_NATS_CREDS_FILE
  value: /etc/moorgate/nats/user.creds
{{- end }}
{{- if and $nats.clientCertificateSecret (not $nats.builtin.enabled) }}
- name: MOORGATE_NATS_CERT_FILE
  value: /etc/moorgate/nats/tls.crt
- name: MOORGATE_NATS_KEY_FILE
  value: /etc/moorgate/nats/tls.key
{{- end }}
{{- if eq .user "operator" }}
- name: MOORGATE_NATS_REPLICAS
  value: {{ ternary $nats.builtin.replicas $nats.streamReplicas $nats.builtin.enabled | quote }}
{{- end }}
{{- end }}

{{/* Dict of root and user. */}}
{{- define "moorgate.natsVolume" -}}
{{- with include "moorgate.natsSources" . -}}
- name: nats
  projected:
    defaultMode: 0440
    sources: {{- . | nindent 6 }}
{{- end }}
{{- end }}

{{- define "moorgate.natsVolumeMount" -}}
{{- if include "moorgate.natsSources" . -}}
- name: nats
  mountPath: /etc/moorgate/nats
  readOnly: true
{{- end }}
{{- end }}

{{/* The configuration of the built-in servers, one entry a file. */}}
{{- define "moorgate.natsFiles" -}}
{{- $files := dict }}
{{- range $path, $_ := .Files.Glob "files/nats/*.conf" }}
{{- $_ := set $files (base $path) ($.Files.Get $path) }}
{{- end }}
{{- with .Values.nats.builtin.integrators }}
{{- $_ := set $files "integrators.conf" . }}
{{- end }}
{{- toYaml $files }}
{{- end }}
