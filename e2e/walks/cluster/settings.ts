// The kubelets' settings: restarts, rotations and updates of volumes, which the walk waits for, come sooner than by default.

/** Alpha still: a container's own stop signal. */
export const featureGates = { ContainerStopSignals: true };

export const settings = {
  featureGates,
  crashLoopBackOff: { maxContainerRestartPeriod: "2s" },
  containerLogMaxSize: "32Ki",
  containerLogMaxFiles: 3,
  containerLogMonitorInterval: "3s",
  syncFrequency: "5s",
  evictionPressureTransitionPeriod: "1s",
  imageMinimumGCAge: "1s",
};
