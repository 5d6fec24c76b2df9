{{/* The two webhook configurations, as a CEL list. */}}
{{- define "moorgate.configurationNames" -}}
['{{ include "moorgate.fullname" . }}-pods', '{{ include "moorgate.fullname" . }}-workloads']
{{- end }}

{{- define "moorgate.accountUser" -}}
system:serviceaccount:{{ .root.Release.Namespace }}:{{ include "moorgate.serviceAccountName" . }}
{{- end }}

{{/* Who keeps caBundle, as a CEL list: the gateways' leader, or cert-manager's injector. */}}
{{- define "moorgate.caKeepers" -}}
{{- $users := list -}}
{{- if eq .Values.tls.issuer "self" }}{{ $users = append $users (include "moorgate.accountUser" (dict "root" . "component" "gateway")) }}{{ end -}}
{{- if eq .Values.tls.issuer "cert-manager" }}{{ $users = append $users .Values.tls.certManager.injectorUser }}{{ end -}}
[{{ range $index, $user := $users }}{{ if $index }}, {{ end }}'{{ $user }}'{{ end }}]
{{- end }}

{{/* Whether the request is one of Kubernetes' own controllers': they collect what has lost its owner. */}}
{{- define "moorgate.isController" -}}
request.userInfo.username in ['system:kube-controller-manager', 'system:serviceaccount:kube-system:generic-garbage-collector']
{{- end }}

{{/* CEL: the object is deleted, now or, by another owner, whenever the garbage collector finds that owner gone. */}}
{{- define "moorgate.goesOrGetsAnOwner" -}}
request.operation == 'DELETE' || (request.operation == 'UPDATE' && object.metadata.?ownerReferences != oldObject.metadata.?ownerReferences)
{{- end }}

{{/* CEL: dict of resource and verb. Nobody serves these verbs: a ClusterRole grants them, `*` and system:masters include them. */}}
{{- define "moorgate.hasRight" -}}
authorizer.group('security.banzaicloud.com').resource('{{ .resource }}').check('{{ .verb }}').allowed()
{{- end }}

{{/* A binding: dict of root, name and actions. */}}
{{- define "moorgate.guardBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels: {{- include "moorgate.labels" (dict "root" .root "component" "guards") | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: {{ toJson .actions }}
{{- end }}

{{- define "moorgate.guardMetadata" -}}
name: {{ .name }}
labels: {{- include "moorgate.labels" (dict "root" .root "component" "guards") | nindent 2 }}
{{- end }}
