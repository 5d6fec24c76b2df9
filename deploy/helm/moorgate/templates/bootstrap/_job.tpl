{{/* What the Pods of the three Jobs have alike: dict of root, component, needsToken, args, env, mounts and volumes (the last three as text). */}}
{{- define "moorgate.jobPod" -}}
metadata: {{- include "moorgate.podMetadata" (dict "root" .root "component" .component "values" .root.Values.bootstrap) | nindent 2 }}
spec:
  serviceAccountName: {{ include "moorgate.serviceAccountName" . }}
  automountServiceAccountToken: {{ .needsToken }}
  enableServiceLinks: false
  # A Pod that failed stays, with what it said, until the Job goes.
  restartPolicy: Never
  securityContext: {{- include "moorgate.podSecurityContext" .root | nindent 4 }}
  {{- with .root.Values.bootstrap.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.bootstrap.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "moorgate.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: {{- toYaml .args | nindent 8 }}
      securityContext: {{- include "moorgate.containerSecurityContext" .root | nindent 8 }}
      env:
        - name: MOORGATE_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        {{- with .env }}
        {{- . | nindent 8 }}
        {{- end }}
      resources: {{- toYaml .root.Values.bootstrap.resources | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- with .mounts }}
        {{- . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: 16Mi}
    {{- with .volumes }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end }}
