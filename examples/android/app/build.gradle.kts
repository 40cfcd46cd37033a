plugins {
    id("com.android.application")
}

android {
    namespace = "edgeseg.app"
    compileSdk = 36
    defaultConfig {
        applicationId = "edgeseg.app"
        minSdk = 28
        targetSdk = 36
        versionCode = 1
        versionName = "0.1.0"
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

dependencies {
    implementation("androidx.activity:activity:1.10.1")
    implementation("androidx.camera:camera-camera2:1.5.0")  // CameraX's way to the hardware
    implementation("androidx.camera:camera-lifecycle:1.5.0")
    implementation("com.google.ai.edge.litert:litert:1.4.2")  // the interpreter, under its old package's name
}
