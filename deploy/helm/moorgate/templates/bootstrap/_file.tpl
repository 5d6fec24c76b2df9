{{/* The file of `moorgate bootstrap` (docs/bootstrap.md); secrets lie beside it in files of their own. */}}
{{- define "moorgate.bootstrapFile" -}}
{{- $bootstrap := .Values.bootstrap -}}
{{- if and $bootstrap.registries (not $bootstrap.anchore.adminSecret) }}
{{- fail "bootstrap.registries: only Anchore's administrator may add registries; name its password in bootstrap.anchore.adminSecret" }}
{{- end }}
waitFor: {{ $bootstrap.waitFor }}
{{- if $bootstrap.anchore.adminSecret }}
{{- if .Values.anchore.existingSecret }}
{{- fail "bootstrap.anchore.adminSecret: with it the bootstrap makes an account of its own; leave anchore.existingSecret empty" }}
{{- end }}
anchore:
  url: {{ required "anchore.url: the bootstrap must know where Anchore is" .Values.anchore.url | quote }}
  api: {{ .Values.anchore.api }}
  username: {{ $bootstrap.anchore.adminUsername | quote }}
  passwordFile: /etc/moorgate/anchore-admin/password
  insecureSkipVerify: {{ .Values.anchore.insecureSkipVerify }}
  {{- if or .Values.anchore.ca.secret .Values.anchore.ca.configMap }}
  caFile: /etc/moorgate/anchore-ca/ca.crt
  {{- end }}
account:
  name: {{ $bootstrap.anchore.account | quote }}
  {{- with $bootstrap.anchore.accountEmail }}
  email: {{ . | quote }}
  {{- end }}
user:
  name: {{ $bootstrap.anchore.user | quote }}
secret:
  namespace: {{ .Release.Namespace | quote }}
  name: {{ include "moorgate.anchoreSecret" . | quote }}
bundles:
  predefined: {{ toJson $bootstrap.bundles.predefined }}
  files: {{ keys $bootstrap.bundles.files | sortAlpha | toJson }}
  {{- with $bootstrap.bundles.active }}
  active: {{ . | quote }}
  {{- end }}
registries: {{ toJson $bootstrap.registries }}
{{- if .Values.scanner.notifications.enabled }}
notifications:
  url: https://{{ include "moorgate.fullname" . }}-scanner.{{ .Release.Namespace }}.svc:9443
  secretFile: /etc/moorgate/notifications/secret
  insecureSkipVerify: {{ $bootstrap.notificationsSkipVerify }}
{{- end }}
{{- end }}
{{- end }}

{{- define "moorgate.bootstrapMounts" -}}
{{ include "moorgate.natsVolumeMount" (dict "root" . "user" "operator") }}
- {name: bootstrap, mountPath: /etc/moorgate/bootstrap, readOnly: true}
{{- if .Values.bootstrap.anchore.adminSecret }}
- {name: anchore-admin, mountPath: /etc/moorgate/anchore-admin, readOnly: true}
{{- if or .Values.anchore.ca.secret .Values.anchore.ca.configMap }}
- {name: anchore-ca, mountPath: /etc/moorgate/anchore-ca, readOnly: true}
{{- end }}
{{- if .Values.scanner.notifications.enabled }}
- {name: notifications, mountPath: /etc/moorgate/notifications, readOnly: true}
{{- end }}
{{- end }}
{{- end }}

{{- define "moorgate.bootstrapVolumes" -}}
{{ include "moorgate.natsVolume" (dict "root" . "user" "operator") }}
- name: bootstrap
  configMap:
    name: {{ include "moorgate.fullname" . }}-bootstrap
{{- if .Values.bootstrap.anchore.adminSecret }}
- name: anchore-admin
  secret:
    secretName: {{ .Values.bootstrap.anchore.adminSecret | quote }}
    defaultMode: 0440
    items: [{key: {{ .Values.bootstrap.anchore.adminKey | quote }}, path: password}]
{{- if or .Values.anchore.ca.secret .Values.anchore.ca.configMap }}
- name: anchore-ca
  projected:
    sources: {{- include "moorgate.authoritiesSources" .Values.anchore.ca | nindent 6 }}
{{- end }}
{{- if .Values.scanner.notifications.enabled }}
- name: notifications
  secret:
    secretName: {{ .Values.scanner.notifications.secret | quote }}
    defaultMode: 0440
    items: [{key: {{ .Values.scanner.notifications.secretKey | quote }}, path: secret}]
{{- end }}
{{- end }}
{{- end }}
