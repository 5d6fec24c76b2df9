{{/* What the NetworkPolicies of several parts say alike. */}}

{{/* Beginning of a NetworkPolicy that denies a component's Pods all that it does not name: dict of root and component. */}}
{{- define "moorgate.networkPolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "moorgate.fullname" .root }}-{{ .component }}
  namespace: {{ .root.Release.Namespace | quote }}
  labels: {{- include "moorgate.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "moorgate.selectorLabels" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
{{- end }}

{{/* One rule: dict of way (`from` or `to`), peers (empty: anybody) and ports. */}}
{{- define "moorgate.flow" -}}
- ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .peers }}
  {{ $.way }}: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "moorgate.metricsIngress" -}}
{{ include "moorgate.flow" (dict "way" "from" "peers" .Values.networkPolicy.metricsFrom "ports" (list 9090)) }}
{{- end }}

{{/* Names of hosts are asked of whoever the node says: a cache on the node is no Pod of the cluster's. */}}
{{- define "moorgate.dnsEgress" -}}
- ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}

{{/* Ports that addresses name, beside those of the values: dict of ports, and of urls as a JSON list. */}}
{{- define "moorgate.portsWith" -}}
{{- $ports := list -}}
{{- range .ports }}{{ $ports = append $ports (int .) }}{{ end -}}
{{- range fromJsonArray .urls -}}
{{- with regexFind ":[0-9]+$" (urlParse (trim .)).host }}{{ $ports = append $ports (int (trimPrefix ":" .)) }}{{ end -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end }}

{{- define "moorgate.apiServerEgress" -}}
{{ include "moorgate.flow" (dict "way" "to" "peers" .Values.networkPolicy.apiServerTo "ports" .Values.networkPolicy.apiServerPorts) }}
{{- end }}

{{- define "moorgate.anchoreEgress" -}}
{{ include "moorgate.flow" (dict "way" "to" "peers" .Values.networkPolicy.anchoreTo "ports" (include "moorgate.portsWith" (dict "ports" .Values.networkPolicy.anchorePorts "urls" (include "moorgate.anchoreUrls" .)) | fromJsonArray)) }}
{{- end }}

{{- define "moorgate.natsEgress" -}}
{{- if .Values.nats.builtin.enabled }}
- ports:
    - {protocol: TCP, port: 4222}
  to:
    - podSelector:
        matchLabels: {{- include "moorgate.selectorLabels" (dict "root" . "component" "nats") | nindent 10 }}
{{- else }}
{{ include "moorgate.flow" (dict "way" "to" "peers" .Values.networkPolicy.natsTo "ports" (include "moorgate.portsWith" (dict "ports" .Values.networkPolicy.natsPorts "urls" (include "moorgate.natsUrls" .)) | fromJsonArray)) }}
{{- end }}
{{- end }}
