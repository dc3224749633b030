listen bench
